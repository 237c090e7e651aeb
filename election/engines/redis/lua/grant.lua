-- Grants the lease with its term's number and record, all or nothing (P1, P2).
-- ARGV: prefix, lease (id:number), number, milliseconds, record, lease of a holder that is dead for certain, own id
local p = ARGV[1]
local held = call('GET', p .. 'lease')
if held and held ~= ARGV[6] and string.sub(held, 1, #ARGV[7] + 1) ~= ARGV[7] .. ':' then
  return 'held'
end
if tonumber(call('GET', p .. 'term') or '0') >= tonumber(ARGV[3]) then
  return 'overtaken'
end
local time = call('TIME')
call('PUBLISH', p .. 'news', ARGV[5])  -- first: a user that may not publish writes nothing
call('SET', p .. 'term', ARGV[3])
call('SET', p .. 'lease', ARGV[2], 'PX', ARGV[4])
call('SET', p .. 'beat', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
call('SET', p .. 'record', ARGV[5])
return 'granted'
