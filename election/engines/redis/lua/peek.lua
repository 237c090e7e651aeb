-- State of the seat, for a campaign.
-- ARGV: prefix
local p = ARGV[1]
local time = redis.call('TIME')
local beat = redis.call('GET', p .. 'beat')
local term = redis.call('GET', p .. 'term') or '0'
return {
  redis.call('GET', p .. 'lease') or '',
  redis.call('PTTL', p .. 'lease'),
  redis.call('GET', p .. 'record') or '',
  tonumber(term),
  beat and (time[1] * 1000 + math.floor(time[2] / 1000) - beat) or -1,
  tonumber(string.match(redis.call('INFO', 'server'), 'uptime_in_seconds:(%d+)')) or 0,
  string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w%-]+)') or 'noeviction',
  redis.call('HEXISTS', p .. 'fences', term)
}
