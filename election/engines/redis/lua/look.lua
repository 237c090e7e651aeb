-- State of the pool; writes the worker's presence, and the largest term number that the worker has seen (P2).
-- ARGV: prefix, that number, id of the worker or '' (writes no presence), the worker as JSON,
--       milliseconds for which the presence is valid
local p = ARGV[1]
if tonumber(ARGV[2]) > tonumber(redis.call('GET', p .. 'term') or '0') then
  redis.call('SET', p .. 'term', ARGV[2])
end
if ARGV[3] ~= '' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZADD', p .. 'seen', now + ARGV[5], ARGV[3])
  if redis.call('HSET', p .. 'workers', ARGV[3], ARGV[4]) == 1 then
    redis.call('PUBLISH', p .. 'joined', ARGV[4])
  end
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', p .. 'seen', '-inf', now)) do
    redis.call('ZREM', p .. 'seen', gone)
    redis.call('HDEL', p .. 'workers', gone)
  end
end
return {
  redis.call('GET', p .. 'lease') or '',
  redis.call('PTTL', p .. 'lease'),
  redis.call('GET', p .. 'record') or '',
  ARGV[3] ~= '' and redis.call('HVALS', p .. 'workers') or false
}
