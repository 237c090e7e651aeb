-- State of the seat, for a campaign.
-- ARGV: prefix
local p = ARGV[1]
local time = call('TIME')
local beat = call('GET', p .. 'beat')
local term = call('GET', p .. 'term') or '0'
return {
  call('GET', p .. 'lease') or '',
  call('PTTL', p .. 'lease'),
  call('GET', p .. 'record') or '',
  tonumber(term),
  beat and (time[1] * 1000 + math.floor(time[2] / 1000) - beat) or -1,
  tonumber(string.match(call('INFO', 'server'), 'uptime_in_seconds:(%d+)')) or 0,
  string.match(call('INFO', 'memory'), 'maxmemory_policy:([%w%-]+)') or 'noeviction',
  call('HGET', p .. 'fences', term) and 1 or 0
}
